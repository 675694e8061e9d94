"""``python -m bottleneck_probe`` is the command ``bottleneck``."""

from .cli.main import main

if __name__ == "__main__":
    main()
