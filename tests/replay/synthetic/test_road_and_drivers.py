"""Road geometry and driver models against what they promise."""

from __future__ import annotations

import numpy as np
import pytest

from replay.synthetic.idm import CONTROLLER, controller_acceleration, idm_acceleration, pursuit_curvature_1pm
from replay.synthetic.road import SHARPEST_CURVATURE_1PM, Road, RoadStyle


def road(seed: int = 3, length_m: float = 900.0) -> Road:
    return Road(length_m, RoadStyle(), np.random.Generator(np.random.PCG64(seed)))


def test_curvature_is_the_change_of_heading_along_the_road():
    line = road()
    s = np.arange(0.0, 800.0, 5.0)
    turned = np.diff(line.heading_rad(s)) / 5.0
    middles = [line.curvature_1pm(float(place)) for place in s[:-1] + 2.5]
    assert turned == pytest.approx(middles, abs=6e-4)
    assert max(map(abs, middles)) <= SHARPEST_CURVATURE_1PM
    assert max(map(abs, middles)) > 0.1 * SHARPEST_CURVATURE_1PM


def test_places_left_of_the_centreline_lie_left_of_it_in_the_world():
    line = road()
    here, left = line.points(200.0, 0.0), line.points(200.0, 2.0)
    heading = float(line.heading_rad(200.0))
    offset = left - here
    assert -np.sin(heading) * offset[0] + np.cos(heading) * offset[1] == pytest.approx(2.0)


def test_idm_keeps_the_desired_speed_on_a_free_road():
    assert idm_acceleration(CONTROLLER, CONTROLLER.desired_speed_mps) == pytest.approx(0.0, abs=1e-6)
    assert idm_acceleration(CONTROLLER, 0.0) == pytest.approx(CONTROLLER.max_accel_mps2, rel=1e-3)


def test_idm_settles_at_its_equilibrium_gap():
    speed, gap = 10.0, 60.0
    for _ in range(6000):
        accel = idm_acceleration(CONTROLLER, speed, gap, speed - 10.0)
        speed += accel * 0.02
        gap += (10.0 - speed) * 0.02
    wanted = CONTROLLER.standstill_gap_m + 10.0 * CONTROLLER.time_gap_s
    expected = wanted / np.sqrt(1 - (10.0 / CONTROLLER.desired_speed_mps) ** 4)
    assert speed == pytest.approx(10.0, abs=0.02)
    assert gap == pytest.approx(expected, rel=0.02)


def test_the_controller_heeds_the_strictest_of_lead_and_red_light():
    free = controller_acceleration(10.0, None, 0.0, None)
    lead = controller_acceleration(10.0, 30.0, 10.0, None)
    light = controller_acceleration(10.0, 30.0, 10.0, 20.0)
    assert free > lead > light
    assert controller_acceleration(14.0, 1.0, 0.0, None) == -3.5


@pytest.mark.parametrize("offset_m", [-1.2, 1.2])
def test_pursuit_steers_back_to_the_lane(offset_m):
    line = road()
    correction = pursuit_curvature_1pm(line, 10.0, offset_m, 0.0, 10.0, 0.0)
    straight = pursuit_curvature_1pm(line, 10.0, 0.0, 0.0, 10.0, 0.0)
    assert (correction - straight) * offset_m < 0
