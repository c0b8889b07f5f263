"""The real daemon, and everything that can happen to it, from one seed; `docs/reliability.md` says what and why.

`schedule.py` decides (pure), `world.py` is what surrounds the daemon, `roads.py` its network, `nursery.py` makes daemons, `checks.py` says what must
hold, `tests/arrivals.py` compares with the simulator's truth, `run.py` is the program.
"""
