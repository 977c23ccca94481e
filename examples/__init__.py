"""The project's example networks; README.md says what each file is."""
