"""Denoising: noise processes, samplers, guidance and the networks that say what is noise."""
