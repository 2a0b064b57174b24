"""The helpers of these tests lie beside them, and beside those of the nodes."""
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / 'nodes'))
