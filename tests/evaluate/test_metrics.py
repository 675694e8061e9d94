"""Metrics agree with scikit-learn."""

import warnings

import numpy as np
import pytest
from bottleneck_probe.evaluate import metrics
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

K = 4


@settings(deadline=None, max_examples=150)
@given(st.lists(st.tuples(st.integers(0, K - 1), st.integers(0, K - 1)), min_size=1, max_size=40))
def test_metrics_agree_with_scikit_learn(rows):
    y, predicted = np.array(rows).T
    confusion = metrics.confusion_matrix(y, predicted, K)
    assert np.array_equal(confusion, reference.confusion_matrix(y, predicted, labels=np.arange(K)))
    found = metrics.values(confusion)
    present = np.unique(y)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "y_pred contains classes not in y_true"
        balanced = reference.balanced_accuracy_score(y, predicted)
    assert found["accuracy"] == pytest.approx(reference.accuracy_score(y, predicted))
    assert found["balanced_accuracy"] == pytest.approx(balanced)
    assert found["macro_f1"] == pytest.approx(
        reference.f1_score(y, predicted, labels=present, average="macro", zero_division=0)
    )
    theirs = reference.precision_recall_fscore_support(
        y, predicted, labels=np.arange(K), zero_division=np.nan
    )
    for c, row in enumerate(metrics.per_class(confusion, list("abcd"))):
        assert row["class"] == "abcd"[c]
        assert row["n"] == theirs[3][c]
        if c in present:
            assert row["recall"] == pytest.approx(theirs[1][c])
            if (predicted == c).any():
                assert row["precision"] == pytest.approx(theirs[0][c])
            else:
                assert np.isnan(row["precision"])
        else:
            assert np.isnan(row["recall"])
            assert np.isnan(row["f1"])


def test_a_stack_of_matrices_is_one_call():
    stack = np.random.default_rng(0).integers(0, 9, size=(7, 3, 3))
    for f in (metrics.accuracy, metrics.balanced_accuracy, metrics.macro_f1):
        assert f(stack) == pytest.approx([float(f(m)) for m in stack])
