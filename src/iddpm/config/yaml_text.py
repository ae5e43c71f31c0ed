"""YAML that people write: read without running anything, and bounded in depth and size."""

from copy import deepcopy
from functools import lru_cache
from typing import Any

import yaml

DEEPEST = 20
"""Mappings and lists inside each other; the settings have five."""
MOST_NODES = 100_000
"""Values after aliases have been followed; the affine of a volume has twenty."""


def parse_yaml(text: str) -> Any:
    """Return the value that ``text`` stands for.

    Raises:
        yaml.YAMLError: it is no YAML, is nested too deeply, contains itself, or its aliases stand
            for too many values.
    """
    return deepcopy(_parsed(text))


@lru_cache(maxsize=16)  # the same few texts are read by each step of a command and of the page
def _parsed(text: str) -> Any:
    loader = _BoundedLoader(text)
    try:
        root = loader.get_single_node()
        if root is None:
            return None
        _count(root, {}, ())
        return loader.construct_document(root)
    finally:
        loader.dispose()


class _BoundedLoader(yaml.SafeLoader):
    """Refuse nesting before Python's own recursion limit is met."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        self.depth += 1
        if self.depth > DEEPEST:
            raise yaml.YAMLError(f"it is nested more than {DEEPEST} levels deep")
        node: yaml.Node | None = super().compose_node(parent, index)
        self.depth -= 1
        return node


def _count(node: yaml.Node, known: dict[int, int], above: tuple[int, ...]) -> int:
    """Return how many values a node stands for, each alias counted as what it repeats."""
    if id(node) in above:
        raise yaml.YAMLError("a mapping or list in it contains itself")
    if id(node) in known:
        return known[id(node)]
    children: list[yaml.Node] = []
    if isinstance(node, yaml.MappingNode):
        children = [part for pair in node.value for part in pair]
    elif isinstance(node, yaml.SequenceNode):
        children = node.value
    total = 1 + sum(_count(child, known, (*above, id(node))) for child in children)
    if total > MOST_NODES:
        raise yaml.YAMLError(f"its aliases expand to more than {MOST_NODES} values")
    known[id(node)] = total
    return total
