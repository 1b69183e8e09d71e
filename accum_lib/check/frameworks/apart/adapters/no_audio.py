"""Imported before SpeechBrain: the published torchaudio needs CUDA's libraries, and here no audio is read."""

import sys
from unittest.mock import MagicMock

sys.modules["torchaudio"] = MagicMock(__version__="2.11.0", __spec__=None)
