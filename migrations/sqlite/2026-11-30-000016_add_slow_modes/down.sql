DROP TABLE slow_modes;
