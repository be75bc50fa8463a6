"""Hydra plugins of seglab. Hydra imports every module here at each start, so they import hydra and omegaconf only."""
