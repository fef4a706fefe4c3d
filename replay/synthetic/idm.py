"""How drivers behave: the Intelligent Driver Model, lane changes, and steering towards a point of the lane.

IDM: M. Treiber, A. Hennecke, D. Helbing, "Congested traffic states in empirical observations and microscopic
simulations", Physical Review E 62 (2000) 1805. Lane changes: A. Kesting, M. Treiber, D. Helbing, "General
lane-changing model MOBIL for car-following models", Transportation Research Record 1999 (2007) 86. Pure pursuit:
R. C. Coulter, "Implementation of the Pure Pursuit Path Tracking Algorithm", CMU-RI-TR-92-01 (1992).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from replay.synthetic.road import Road

HARDEST_BRAKING_MPS2 = -8.0
CONTROLLER_BRAKING_MPS2 = -3.5  # adaptive cruise control does not brake harder (ISO 15622)
FREE_GAP_M = 1e6


@dataclass(frozen=True, slots=True)
class Driver:
    """Parameters of the IDM; the defaults are the ones of the shadowed car's own controller."""

    desired_speed_mps: float = 14.0
    time_gap_s: float = 1.4
    standstill_gap_m: float = 2.5
    max_accel_mps2: float = 1.4
    comfortable_braking_mps2: float = 2.0
    politeness: float = 0.3
    change_threshold_mps2: float = 0.25
    safe_braking_mps2: float = 3.0


CONTROLLER = Driver()


def idm_acceleration(driver: Driver, speed_mps: float, gap_m: float = FREE_GAP_M, closing_mps: float = 0.0) -> float:
    """The IDM's acceleration. `gap_m` is bumper to bumper, `closing_mps` positive when the gap shrinks."""
    comfort = 2 * math.sqrt(driver.max_accel_mps2 * driver.comfortable_braking_mps2)
    wanted_gap_m = driver.standstill_gap_m + max(0.0, speed_mps * driver.time_gap_s + speed_mps * closing_mps / comfort)
    free = 1.0 - (max(speed_mps, 0.0) / driver.desired_speed_mps) ** 4
    interaction = (wanted_gap_m / max(gap_m, 0.1)) ** 2
    return max(HARDEST_BRAKING_MPS2, driver.max_accel_mps2 * (free - interaction))


def controller_acceleration(
    speed_mps: float, lead_gap_m: float | None, lead_speed_mps: float, stop_gap_m: float | None
) -> float:
    """What the car's own controller commands: the strictest of free road, vehicle ahead and red light."""
    choices = [idm_acceleration(CONTROLLER, speed_mps)]
    if lead_gap_m is not None:
        choices.append(idm_acceleration(CONTROLLER, speed_mps, lead_gap_m, speed_mps - lead_speed_mps))
    if stop_gap_m is not None:
        choices.append(idm_acceleration(CONTROLLER, speed_mps, stop_gap_m, speed_mps))
    return max(CONTROLLER_BRAKING_MPS2, min(choices))


def wants_to_change(driver: Driver, here_mps2: float, there_mps2: float, follower_loss_mps2: float) -> bool:
    """MOBIL: whether the gain in another lane outweighs politeness; `follower_loss_mps2` is what it costs them."""
    return there_mps2 - here_mps2 > driver.change_threshold_mps2 + driver.politeness * follower_loss_mps2


def lookahead_m(speed_mps: float) -> float:
    """How far ahead the steering aims."""
    return max(8.0, 1.2 * speed_mps)


def pursuit_curvature_1pm(
    road: Road, s_m: float, d_m: float, turn_rad: float, speed_mps: float, goal_d_m: float
) -> float:
    """The curvature of the arc from here to the lane's middle at the lookahead distance (pure pursuit)."""
    ahead_m = lookahead_m(speed_mps)
    here_x, here_y, _ = road.points(s_m, d_m)
    goal_x, goal_y, _ = road.points(s_m + ahead_m, goal_d_m)
    yaw = float(road.heading_rad(s_m)) + turn_rad
    dx, dy = float(goal_x - here_x), float(goal_y - here_y)
    lateral = -dx * math.sin(yaw) + dy * math.cos(yaw)
    return 2.0 * lateral / (dx * dx + dy * dy)
