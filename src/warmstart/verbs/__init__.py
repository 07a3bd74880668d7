"""The public verbs, one module each: the only room that brings siblings together."""
