"""Dagster definitions built from contracts; the only package that imports dagster."""
