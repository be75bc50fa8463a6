"""Reports for people: HTML pages, pictures, tables on the screen."""
