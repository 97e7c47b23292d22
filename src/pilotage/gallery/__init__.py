"""Gallery: pages and plots from run folders."""
