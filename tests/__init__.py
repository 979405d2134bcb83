"""Tests of jobdeck."""
