"`python -m millivid`: nbdev cannot export a file of this name, so this one is written by hand."
import sys

from millivid.cli import main

if __name__ == "__main__":
    sys.exit(main())
