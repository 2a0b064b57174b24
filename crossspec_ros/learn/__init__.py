"""From recorded drives and any verifier to a drafter that speaks that verifier's own words: `learn.course`."""
