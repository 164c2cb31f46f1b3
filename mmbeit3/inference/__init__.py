"""Trained models on images: inferencers of each task, runs over folders, and what they write."""
