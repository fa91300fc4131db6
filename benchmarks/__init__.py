"""The asv suite: fastmlp beside the libraries that people train such networks with. See `asv.conf.json`."""
