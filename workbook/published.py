"""The numbers of the paper that stand beside ours in tables, and that the claims ledger reads."""

# Table 2, in percent: AS drop, AP drop, AP increase, as in fam_lib.faithfulness.METRICS.
TABLE2 = {
    "Market1501": {
        "grad-cam": (52.08, 77.18, 2.49),
        "score-cam": (54.07, 67.41, 7.66),
        "ram": (29.65, 38.45, 14.61),
        "cg-ram": (57.95, 79.05, 2.70),
        "grad-fam": (28.28, 35.14, 15.97),
        "score-fam": (16.57, 17.01, 30.26),
    },
    "CUHK03": {
        "grad-cam": (56.97, 74.53, 8.57),
        "score-cam": (51.27, 62.62, 18.07),
        "ram": (35.88, 51.32, 22.00),
        "cg-ram": (59.63, 77.73, 7.64),
        "grad-fam": (33.11, 47.55, 24.86),
        "score-fam": (17.49, 28.68, 38.86),
    },
}

# Table 1, in seconds: ResNet-50, 256 x 128, on a Tesla P40.
TABLE1_SECONDS = {"grad-fam": 0.05, "score-fam": 9.69}
