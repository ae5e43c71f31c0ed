"""How the documentation is made: pages are gathered and generated, and Sphinx renders them."""
