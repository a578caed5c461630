"""Measures of what was recorded."""

from ._spike_times import spike_times as spike_times
