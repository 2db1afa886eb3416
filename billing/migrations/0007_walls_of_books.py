from django.db import migrations

from lib.operations import EnableRLS

# What was paid stands for good. How it stands (paid, disputed, refunded) and by which payment becomes known later.
STANDS = """
create function public.guard_billing_transaction() returns trigger language plpgsql
set search_path = pg_catalog, pg_temp as $$
begin
    if to_jsonb(new) - '{status,payment_id,payment_method,invoice_url}'::text[]
       is distinct from to_jsonb(old) - '{status,payment_id,payment_method,invoice_url}'::text[]
    then raise insufficient_privilege using message = 'a billing transaction is corrected by another one';
    end if;
    return new;
end $$;
create trigger guard_billing_transaction before update on billing_billingtransaction
for each row execute function public.guard_billing_transaction();
"""


class Migration(migrations.Migration):
    dependencies = [("billing", "0006_books"), ("accounts", "0002_walls")]

    operations = [
        EnableRLS("Customer", service="select, insert, update"),
        EnableRLS("CreditPackOffer", owner=None, user="select", visitor="select", brand="select"),
        EnableRLS("BillingTransaction", user="select", brand="select", service="select, insert, update"),
        EnableRLS("OverageReport", service="select, insert, update"),
        migrations.RunSQL(STANDS, "drop function public.guard_billing_transaction() cascade"),
    ]
