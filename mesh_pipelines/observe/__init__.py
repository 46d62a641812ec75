"""What is promised beside what is measured: looks, health, incidents, notifications."""
