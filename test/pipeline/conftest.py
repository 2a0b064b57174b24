"""The stand-ins of one file of tests are of use in another."""
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))                  # test_drafting, test_verifying
