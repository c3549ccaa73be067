"""Search for hyperparameters: many trainings, chosen one after the other by DeepHyper, judged on two objectives."""
