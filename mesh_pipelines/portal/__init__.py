"""The web portal: catalog, product pages, quality dashboard and service levels, and all of it as JSON."""
