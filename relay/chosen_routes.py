"""Which route a message takes: the statement's part that the claim, the Queue page and the explanation share.

Shapes  JOINS goes after a FROM in which `message` is relay_message or a row with its organization_id and header_from;
        afterwards `named` is the named route (NULL: the built-in one), and KIND is where the mail goes. KIND takes the
        parameter default_route.
Source  docs/delivery.md, Routes.

The sandbox is fixed when mail is accepted: what was accepted for the sandbox never leaves, and what was accepted for
the outside is never swallowed by it, but waits. All else is looked up when the mail is claimed, so that it follows a
route that was changed.
"""

JOINS = """
    LEFT JOIN relay_sendingdomain own_domain ON own_domain.organization_id = message.organization_id
         AND own_domain.name = lower(substring(message.header_from from '[^@]*$'))
    LEFT JOIN relay_routechoice of_domain ON of_domain.domain_id = own_domain.id
    LEFT JOIN relay_routechoice of_organization ON of_organization.organization_id = message.organization_id
    LEFT JOIN accounts_subscription bought ON bought.organization_id = message.organization_id
    LEFT JOIN relay_routechoice of_plan ON of_plan.plan_id = bought.plan_id
    LEFT JOIN relay_namedroute named
         ON named.id = coalesce(of_domain.route_id, of_organization.route_id, of_plan.route_id)
"""
KIND = """
    CASE WHEN message.route = 'sandbox' THEN 'sandbox'
         WHEN named.kind = 'sandbox' THEN 'hold'
         ELSE coalesce(named.kind, nullif(%(default_route)s, 'sandbox'), message.route) END
"""
