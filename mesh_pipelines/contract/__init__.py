"""What a contract means, as pure values: ODCS document to DataProduct, types, evolution, policies."""
