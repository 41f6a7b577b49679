"""The console: what moves, what is wrong and who decided, in a browser, from a store and a declaration and nothing else.

Pages are made here, whole, and work without script; the one script that is shipped keeps them up to date and opens details beside
them. Nothing is fetched from anywhere else, so an air-gapped site sees what any other sees.

Read it from the outside in: ``app`` is the web application, ``guard`` what stands before it, ``access`` who may do what; ``picture``
makes of the store's sums what the map shows and ``drawing`` draws it.
"""
