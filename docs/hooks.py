"""What mkdocs does with pages once they are made."""

import re
from typing import Any


def on_page_content(html: str, **kwargs: Any) -> str:
    """A page without the roles of reStructuredText that stand before names in docstrings."""
    return re.sub(r":(?:class|func|meth|mod|data|attr):(?=<code>)", "", html)
