"""A small Catena on loopback, for the demo and the tests.

Written from the contract alone, with the standard library alone, and sharing no code with the client, so that a misreading
in one is caught by the other. Nothing in the product imports it but the command that starts it.
"""

from messaging.simulator.faults import Fault, Match
from messaging.simulator.pace import Pace
from messaging.simulator.server import SimulatorServer
from messaging.simulator.world import World

__all__ = ["Fault", "Match", "Pace", "SimulatorServer", "World"]
