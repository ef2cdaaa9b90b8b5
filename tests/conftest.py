"""Settings that every test shares."""

from hypothesis import settings

settings.register_profile("untimed", deadline=None)  # a slow machine is no defect
settings.load_profile("untimed")
