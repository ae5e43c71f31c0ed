"""The theory: schedules, predictions, posteriors, likelihoods and losses; knows no network."""
