"""The course as static pages that need neither a kernel nor a network."""
