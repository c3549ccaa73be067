"""What the page says of each score and each picture: docs/metrics.md in a line or two.

A new score of codes or images is a line of `SCORES`; a new picture one of `PICTURES`.
"""

from typing import NamedTuple

SCORES = {
    "lds": (
        "LDS",
        "How alone each factor stands in its own latent, over all latents and on codes drawn from the posterior. A "
        "perfect code reaches the ceiling, not 1: chance alone correlates what is independent.",
    ),
    "lds_d": ("LDS, guided latents", "The same over the guided latents alone."),
    "lds_mean": (
        "LDS of means",
        "LDS of posterior means instead of draws. It is stricter: no noise hides a small dependence.",
    ),
    "lds_d_mean": ("LDS of means, guided latents", "The same over the guided latents alone."),
    "sap": (
        "SAP",
        "How much better the best latent tells a factor than the second best does. 1 is best where factors are "
        "continuous, 0 is no preference.",
    ),
    "mig": ("MIG", "The same gap in mutual information, as a share of what there is to know. 0 is no preference."),
    "modularity": (
        "Modularity",
        "Whether each latent tells of one factor alone. Latents that know nothing lower it, so .5 can be a good code.",
    ),
    "dci.disentanglement": (
        "DCI disentanglement",
        "Whether each latent serves one factor, by what forests use. 1 is best.",
    ),
    "dci.completeness": (
        "DCI completeness",
        "Whether one latent is enough for each factor, by what forests use. 1 is best.",
    ),
    "dci.informativeness": (
        "DCI informativeness",
        "How much of the factors forests read from the latents (R²). 1 is all, 0 is nothing.",
    ),
    "factor_vae": (
        "FactorVAE score",
        "How often the latent that varies least tells which factor was held fixed. Chance is one over the number of "
        "factors. A factor that guides several latents lowers it.",
    ),
    "beta_vae": ("β-VAE score", "The same by a linear classifier. Chance is one over the number of factors."),
    "ssim": (
        "SSIM",
        "How like the original the decoded image is, each in its own range. 1 is the same image.",
    ),
    "ssim_range_1": (
        "SSIM, range 1",
        "SSIM in the range of the brightest training image. It flatters: what is faint looks alike there.",
    ),
    "mse": (
        "MSE",
        "Mean squared error of pixels, in units of the brightest training pixel. Less is better: compare it with "
        "the mean image and PCA below it.",
    ),
    "chi2": (
        "χ² per pixel",
        "Squared error over the noise that the file states. 1 is right. Above it images are off by more than noise.",
    ),
}
"""By the name in metrics.json: what it is called, and what it says."""

READING = (
    "What the mean of the guided latent tells of the factor. r is the signed correlation, negative where the latent"
    " runs backwards. The slope is 1 where the scale is right, much less where it is squeezed. The error is the "
    "root mean square in the factor's unit, as it is and after the best straight line. The ridge "
    "regression sees principal components: what it reads is in the images."
)
IN_OWN_TERMS = (
    "Angles and classes as a whole: the mean error in the factor's unit, or the share of classes that are right. By"
    " chance is what a constant answer scores."
)
TRUE = "its true value: the same with what errors of labels add taken off."
CONTROL = (
    "A reader, trained on real images alone, looks at images that were asked for with the factors of other images. "
    "Its r and slope should be those that it has on real images."
)
DISTANCES = {
    "once": ("Composition", "What encoding and decoding changes. 0 is nothing, 1 is another image."),
    "again": ("Composition, several times", "The same after encoding and decoding again and again."),
    "reversibility": (
        "Reversibility",
        "What is left when an image gets other factors and then its own again. It should be near the composition, "
        "several times.",
    ),
    "minimality": (
        "Minimality",
        "How much else changes with the factors: the share of other images that are nearer in the residual latents."
        " 0 is best, ½ is another image.",
    ),
    "unlike": (
        "Unlike real images",
        "Share of what was asked for that lies farther from all real images than 99 of "
        "100 reconstructions do. .01 is right, and says no more than that.",
    ),
    "rendered": (
        "Asked against rendered",
        "The distance to the image that those factors have. It should be near the composition.",
    ),
}
VIEWS = {
    "asked": "What was asked for",
    "own": "The true view, encoded and decoded",
    "still": "The first view, encoded and decoded: nothing has turned",
}
SHARE = "0 is as if nothing had turned, 1 as good as a reconstruction of the true view."
BEFORE_VIEWS = "These look at codes and pixels alone. Whether the object looks as it really does, the next table says."
TRUE_VIEW = (
    "Here the same object is there with other factors. What was asked for is held against that very image. A reader "
    "may find the factor in an image that no object has: this score tells."
)
JOINT = (
    "How much of each guided factor trees read from all residual latents together (R²), which should be no more "
    "than chance. A value above .03 that is above chance with its whole interval means that the factor is not in "
    "its own latent alone. Below 0 it is worse than guessing the mean, which trees are by chance. Of a factor with "
    "classes the one stands here of which most is told."
)
HIDDEN = (
    "How much of each other factor the errors of the guided latents tell, beyond what the factors tell (R²). It "
    "should be near 0. Above .1 the guided latents carry something that is not theirs."
)


class Words(NamedTuple):
    """Of a part of the page."""

    title: str
    how: str
    """How to read it."""
    bad: str
    """What a bad one looks like."""
    missing: str = "`hpcauxvae evaluate` draws them, unless with `--no-pictures`."
    """Where it comes from, for a page without it."""


PICTURES = {
    "training": Words(
        "Training curves",
        "Each panel is a term of the loss, or a gauge, against epochs: training in grey, validation in maroon. "
        "Reconstruction and kl are those of any VAE. Early and asked are what is added for residual latents that tell "
        "a factor too early, and for factors that the decoder does not obey. Intra, inter and joint hold the latents "
        "apart; their weight finds its own way, and the dependence ends at its tolerance.",
        "Bad: validation rises while training falls, the last epochs still fall steeply, or the dependence ends far"
        " above the dashed tolerance. Where the noise is fitted, the reconstruction of validation may rise while the "
        "images get better: the MSE tells.",
    ),
    "scatter": Words(
        "Factors against latents",
        "Each panel has a factor upwards and a latent to the right: draws of z in grey, posterior means in maroon. "
        "The framed panels are those where a factor meets its own latent.",
        "Good is a thin rising line in each framed panel, or the curve of a cosine and a sine where the factor is an "
        "angle. Bad: a cloud or a falling line there, or a shape where a factor meets another's latent. A shape of a "
        "factor that guides none with a latent that none guides is no fault: the model has found it.",
    ),
    "classes": Words(
        "Which class is taken for which",
        "Each row is a class that an image is of, each column one that its code is nearest to.",
        "Good is a dark diagonal and nothing else. Bad: a dark square beside it, where two classes are taken for "
        "each other, or a row that is pale throughout, of a class that no image here is of.",
        "Only guided factors with many classes have one.",
    ),
    "traversal": Words(
        "Traversals",
        "Each row varies one factor, or one residual latent, while all others stay. The numbers above are its values.",
        "Bad: a row of a factor in which nothing changes, or in which something else changes too. A row of a "
        "residual latent, in its own standard deviations, looks the same throughout if it is off or draws nothing.",
    ),
    "control": Words(
        "Control: asked against read",
        "The rows are images A, their reconstructions, A with the factors of B, and B. Above the third row stands "
        "what was asked for and what the reader finds in it.",
        "Bad: the third image is A unchanged although other factors were asked for, no such thing at all, or the two "
        "numbers are far apart. The reader errs, too: its error on real images stands in the table.",
        "A model without guided latents cannot be asked for factors; `--no-control` leaves it out, too.",
    ),
    "views": Words(
        "Beside the true view",
        "Each column is one object. The rows are an image A, A asked to have the factors of C, C itself, and what the "
        "model makes of C.",
        "Good is a second row that looks like the fourth. Bad: it looks like the first, or like no such object.",
        "Only sets that show each object with many values of the factors have it.",
    ),
    "reconstructions": Words(
        "Reconstructions",
        "Test images, what the model makes of them, and the difference: red where the original is brighter, blue "
        "where it is darker.",
        "Good residuals are noise without shape, stronger where the image is brighter. What of the object can be seen "
        "in them the model leaves out. Bad: all reconstructions look alike.",
    ),
    "ssim": Words(
        "SSIM of images",
        "The box has the middle half of the images, the line is the median, the diamond the mean; whiskers end at "
        "the 5th and 95th percentile.",
        "Bad: a long whisker to the left, images that are drawn much worse than the rest, or a box far from the "
        "noiseless truth where it is shown.",
    ),
    "correlations": Words(
        "Correlations of factors and latents",
        "Each cell has the correlation of a factor with a latent, darker where it is stronger.",
        "Good is one dark cell in the row of each guided factor. Bad: two dark cells in a row, or none.",
    ),
    "calibration": Words(
        "Calibration of predictions",
        "The share of labels that the intervals of `predict` cover, against the share that they promise.",
        "Good lines lie on the diagonal, within the grey band of chance. Bad: below it intervals are too narrow, "
        "above it too wide.",
        "`hpcauxvae predict` calibrates a run the first time that it is used.",
    ),
    "sobol": Words(
        "Sobol indices",
        "Of the variance of each pixel statistic the share that an input causes alone (first) and with all others "
        "(total), in images that the model draws.",
        "Bad: a factor whose shares are all 0, which decides nothing that is seen, or a residual latent that "
        "decides what a factor should.",
        "`hpcauxvae sensitivity RUN` computes them.",
    ),
    "leakage": Words(
        "Leakage",
        "What the latents tell that they should not: guided factors in the residual latents, other factors in the "
        "guided ones.",
        "Bad: a value above .03 that is above chance with its whole interval; it is among the findings then.",
        "Only guided latents have it.",
    ),
}
"""By the beginning of the file's name, in the order of the page."""
