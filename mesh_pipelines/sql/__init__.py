"""SQL as text: quoting, and what one SELECT reads."""
