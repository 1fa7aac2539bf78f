"""Codes inside frameworks for texts: sentence-transformers, LangChain, Haystack and LlamaIndex; and in databases.

Each module needs the package that it is named after: `from deephash.integrations.langchain import HashedVectorStore`.
"""
