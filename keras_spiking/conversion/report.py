"""x."""
class LayerResult: pass
class Report: pass
class Result: pass
