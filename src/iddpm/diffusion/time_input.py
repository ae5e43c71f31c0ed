"""The time that the network is shown."""

import dataclasses

from iddpm.diffusion.schedule import LOG_SNR_MAX, LOG_SNR_MIN, NoiseSchedule

LEAST_LOG_SNR = -20.0
"""In nats; what has less is shown as this, pure noise included. The data is then a
hundred-millionth of the noise's variance or less, and nothing of it can be seen."""


def show_log_snr(schedule: NoiseSchedule) -> NoiseSchedule:
    """Return the schedule with the log-SNR as the network's time input, scaled.

    A log-SNR of 13.3 nats is shown as 0 and one of -5 as 1000, for any schedule and any number of
    steps; c_noise = log(sigma) / 4 of EDM (Karras et al. 2022, table 1) is linear in it too. It
    replaces t, whose relation to the noise is steep at the ends of a schedule.

    >>> from iddpm.diffusion import cosine
    >>> [round(float(shown)) for shown in show_log_snr(cosine(1000)).shown[[0, 499, 999]]]
    [175, 728, 1811]
    """
    log_snr = 2 * schedule.half_log_snr.clamp(min=LEAST_LOG_SNR / 2)
    shown = 1000 * (LOG_SNR_MAX - log_snr) / (LOG_SNR_MAX - LOG_SNR_MIN)
    return dataclasses.replace(schedule, shown=shown)
