"""What docs/zoo says of the networks of conf/model: measured, drawn and written."""
