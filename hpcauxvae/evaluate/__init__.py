"""What a trained model is worth and good for: scores, pictures, codes, generated images."""
