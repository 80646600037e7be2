"""Every SELECT of the product, one module per noun."""
