"""Watch a simulator's state while it runs: a view that follows every step, cannot be written to, and costs nothing."""

import array

import numpy as np

import freehold as fh


class Simulator:
    """Steps its state in place, as physics engines do. Anything with a buffer, an array interface or DLPack will do."""

    def __init__(self, bodies):
        self.state = array.array("d", [0.0, 1.0] * bodies)  # position and velocity of each

    def step(self, dt=0.5):
        for body in range(0, len(self.state), 2):
            self.state[body] += dt * self.state[body + 1]


simulator = Simulator(bodies=3)
live = fh.share(simulator.state, "numpy", writable=False).reshape(3, 2)
positions = live[:, 0]
print(positions.tolist())
# >> [0.0, 0.0, 0.0]
simulator.step()
print(positions.tolist(), live.flags.writeable)
# >> [0.5, 0.5, 0.5] False

# What is to be kept is copied out; the view goes on following. For a model, another dtype in the same pass.
history = []
for _ in range(2):
    simulator.step()
    history.append(fh.copy(positions, "torch", dtype="float32"))
print([frame.tolist() for frame in history])
# >> [[1.0, 1.0, 1.0], [1.5, 1.5, 1.5]]

# While it is watched, the simulator cannot move its memory away: it gets an error, and not the watcher a crash.
try:
    simulator.state.append(0.0)
except BufferError as error:
    print(error)
# >> cannot resize an array that is exporting buffers
print(fh.ledger.owner(live)["owner"]["framework"], [h["framework"] for h in fh.ledger.holders(live)])
# >> buffer ['buffer', 'numpy']
del live, positions
simulator.state.append(0.0)
print(np.size(simulator.state))
# >> 7
