"""The benchmark suite: `python -m benchmarks` from the root of the repository; the contract is in `README.md` here."""
