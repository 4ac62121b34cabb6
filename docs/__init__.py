"""The pages. A package, so that `conftest` of the tests and of the pages are two modules."""
