"""Great Expectations: suites, its engine for custom rules, Data Docs."""
