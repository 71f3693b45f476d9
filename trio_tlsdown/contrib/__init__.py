"""Adapters for other packages. Each module needs the package it is named after."""
