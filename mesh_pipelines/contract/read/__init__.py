"""From the files of a product's folder to a ``DataProduct``, with every fault named."""
