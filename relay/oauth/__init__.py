"""OAuth 2.0: Gatepost as authorization server, and access tokens of outside issuers. Start at docs/flow.md, OAuth."""
