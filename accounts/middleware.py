"""Placeholder until the accounts part lands."""
def OrganizationMiddleware(get_response):
    return get_response
