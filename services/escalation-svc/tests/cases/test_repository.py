from escalation_svc.cases import repository
from escalation_svc.cases.decisions import Decisions
from escalation_svc.clocks.service import Clocks
from escalation_svc.customers.service import Customers
from escalation_svc.policies.service import Policies
from touchpoint.db.engine import Sessions, transaction
from touchpoint.testing import factories as make


async def test_a_case_is_inserted_only_once(policies: Policies, sessions: Sessions) -> None:
    decisions = Decisions(policies, Customers(), Clocks(policies.first_response))
    decisions.take(make.ticket_opened(priority="urgent"))
    (case,) = decisions.cases.values()
    async with transaction(sessions) as session:
        assert await repository.insert_opened(session, [case]) == {case.escalation_id}
    async with transaction(sessions) as session:
        assert await repository.insert_opened(session, [case]) == set()


async def test_inserting_no_cases_returns_no_ids(sessions: Sessions) -> None:
    async with transaction(sessions) as session:
        assert await repository.insert_opened(session, []) == set()
