"""``python -m dpsynth``: the command line, as for ``torchrun -m dpsynth``."""

from dpsynth.cli import main

if __name__ == "__main__":
    main()
