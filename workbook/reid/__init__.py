"""Person re-identification: data in Market1501's layout, the bag-of-tricks network, its training and evaluation."""
