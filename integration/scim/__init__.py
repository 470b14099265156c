"""SCIM 2.0 (RFC 7643, 7644): users that identity providers push, and what they say of employees."""
