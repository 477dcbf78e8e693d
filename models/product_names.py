"""Names of well-known products of Microsoft, which Graph does not tell.

Made by hand from public sources. It is not Microsoft's whole list, which names several hundred
products and renames some each year ("Product names and service plan identifiers for licensing" in
the documentation of Microsoft Entra). A product that is missing here is shown by its part number.
"""

from datetime import date
from typing import Final

AS_OF: Final = date(2026, 11, 30)
"""When the list was made."""

_LIST: Final = """
05e9a617-0261-4cee-bb44-138d3ef5d965 Microsoft 365 E3
dcf0408c-aaec-446c-afd4-43e3683943ea Microsoft 365 E3 (no Teams)
06ebc4ee-1bb5-47dd-8120-11324bc54e06 Microsoft 365 E5
18a4bd3f-0b5b-4887-b04f-61dd0ee15f5e Microsoft 365 E5 (no Teams)
c42b9cae-ea4f-4ab7-9717-81576235ccac Microsoft 365 E5 Developer
184efa21-98c3-4e5d-95ab-d07053a96e67 Microsoft 365 E5 Compliance
26124093-3d78-432b-b5dc-48bf992543d5 Microsoft 365 E5 Security
44ac31e7-2999-4304-ad94-c948886741d4 Microsoft 365 E5 Security for EMS E5
44575883-256e-4a79-9da4-ebe9acabe2b2 Microsoft 365 F1
66b55226-6b4f-492c-910c-a3b7a3c9d993 Microsoft 365 F3
2347355b-4e81-41a4-9c22-55057a399791 Microsoft 365 Security and Compliance for Firstline Workers
e823ca47-49c4-46b3-b38d-ca11d5abe3d2 Microsoft 365 G3 GCC
d61d61cc-f992-433f-a577-5bd016037eeb Microsoft 365 E3 (US Government DoD)
ca9d1dd9-dfe9-4fef-b97c-9bc1ea3c3658 Microsoft 365 E3 (US Government GCC High)
3b555118-da6a-4418-894f-7df1e2096870 Microsoft 365 Business Basic
dab7782a-93b1-4074-8bb1-0e61318bea0b Microsoft 365 Business Basic
f245ecc8-75af-4f8e-b61f-27d8114de5f3 Microsoft 365 Business Standard
ac5cef5d-921b-4f97-9ef3-c99076e5470f Microsoft 365 Business Standard - Prepaid Legacy
cbdc14ab-d96c-4c30-b9f4-6ada7cdc1d46 Microsoft 365 Business Premium
cdd28e44-67e3-425e-be4c-737fab2899d3 Microsoft 365 Apps for Business
b214fe43-f5a3-4703-beeb-fa97188220fc Microsoft 365 Apps for Business
c2273bd0-dff7-4215-9ef5-2c7bcfb06425 Microsoft 365 Apps for Enterprise
639dec6b-bb19-468b-871c-c5c441c4b0cb Microsoft 365 Copilot
b17653a4-2443-4e8c-a550-18249dda78bb Microsoft 365 A1
4b590615-0888-425a-a965-b3bf7789848d Microsoft 365 A3 for faculty
7cfd9a2b-e110-4c39-bf20-c6a3f36a3121 Microsoft 365 A3 for students
18250162-5d87-4436-a834-d795c15c80f3 Microsoft 365 A3 student use benefits
e97c048c-37a4-45fb-ab50-922fbf07a370 Microsoft 365 A5 for faculty
46c119d4-0379-4a9d-85e4-97c66d3f909e Microsoft 365 A5 for students
31d57bc7-3a05-4867-ab53-97a17835a411 Microsoft 365 A5 student use benefits
18181a46-0d4e-45cd-891e-60aabd171b4e Office 365 E1
6634e0ce-1a9f-428c-a498-f84ec7b8aa2e Office 365 E2
6fd2c87f-b296-42f0-b197-1e91e994b900 Office 365 E3
189a915c-fe4f-4ffa-bde4-85b9628d07a0 Office 365 E3 Developer
b107e5a3-3e60-4c0d-a184-a7e4395eb44c Office 365 E3 (US Government DoD)
aea38a85-9bd5-4981-aa00-616b411205bf Office 365 E3 (US Government GCC High)
1392051d-0cb9-4b7a-88d5-621fee5e8711 Office 365 E4
c7df2760-2c81-4ef7-b578-5b5392b571df Office 365 E5
26d45bd9-adf1-46cd-a9e1-51e9a5524128 Office 365 E5 without Audio Conferencing
4b585984-651b-448a-9e53-3b10f069cf7f Office 365 F3
535a3a29-c5f0-42fe-8215-d3b9e1f38c4a Office 365 G3 GCC
94763226-9b3c-4e75-a931-5c89701abe66 Office 365 A1 for faculty
314c4481-f395-4525-be8b-2ec4bb1e9d91 Office 365 A1 for students
e578b273-6db4-4691-bba0-8d691f4da603 Office 365 A3 for faculty
98b6e773-24d4-4c0d-a968-6e787a1f8204 Office 365 A3 for students
a4585165-0533-458a-97e3-c400570268c4 Office 365 A5 for faculty
ee656612-49fa-43e5-b67e-cb1fdf7699df Office 365 A5 for students
04a7fb0d-32e0-4241-b4f5-3f7618cd1162 Office 365 Midsize Business
bd09678e-b83c-4d3f-aaba-3dad4abd128b Office 365 Small Business
fc14ec4a-4169-49a4-a51e-2c852931814b Office 365 Small Business Premium
1b1b1f7a-8355-43b6-829f-336cfccb744c Office 365 Advanced Compliance
99049c9c-6011-4908-bf17-15f496e6519d Office 365 Extra File Storage
2b9c8e7c-319c-43a2-a2a0-48c5c6161de7 Microsoft Entra Basic
078d2b04-f1bd-4111-bbd4-b4b1b354cef4 Microsoft Entra ID P1
30fc3c36-5a95-4956-ba57-c09c2a600bb9 Microsoft Entra ID P1 for faculty
84a661c4-e949-4bd2-a560-ed7766fcaf2b Microsoft Entra ID P2
f9602137-2203-447b-9fff-41b36e08ce5d Microsoft Entra Suite
efccb6f7-5641-4e0e-bd10-b4976e1bf68e Enterprise Mobility + Security E3
b05e124f-c7cc-45a0-a6aa-8cf78c946968 Enterprise Mobility + Security E5
061f9ace-7d42-4136-88ac-31dc755f143f Microsoft Intune Plan 1
a929cd4d-8672-47c9-8664-159c1f322ba8 Microsoft Intune Suite
2b317a4a-77a6-4188-9437-b68a77b4e2c6 Microsoft Intune Device
2c21e77a-e0d6-4570-b38a-7ff2dc17d2ca Microsoft Intune Device for Government
e6025b08-2fa5-4313-bd0a-7e5ffca32958 Microsoft Intune SMB
c52ea49f-fe5d-4e95-93ba-1de91d380f89 Azure Information Protection Plan 1
a0e6a48f-b056-4037-af70-b9ac53504551 Azure Information Protection Plan 1
8c4ce438-32a7-4ac5-91a6-e22ae08d9c8b Rights Management Adhoc
111046dd-295b-4d6d-9724-d52ac90bd1f2 Microsoft Defender for Endpoint
16a55f2f-ff35-4cd5-9146-fb784e3761a5 Microsoft Defender for Endpoint P1
4ef96642-f096-40de-a3e9-d83fb2f90211 Microsoft Defender for Office 365 (Plan 1)
3dd6cf57-d688-4eed-ba52-9e40b5468c3e Microsoft Defender for Office 365 (Plan 2)
98defdf7-f6c1-44f5-a1f6-943b6764e7a5 Microsoft Defender for Identity
df845ce7-05f9-4894-b5f2-11bbfbcfd2b6 Microsoft Defender for Cloud Apps
9706eed9-966f-4f1b-94f6-bb2b4af99a5b App governance add-on to Microsoft Defender for Cloud Apps
a9c51c15-ffad-4c66-88c0-8771455c832d Defender Threat Intelligence
4b9405b0-7788-4568-add1-99614e613b69 Exchange Online (Plan 1)
19ec0d23-8335-4cbd-94ac-6050e30712fa Exchange Online (Plan 2)
ee02fd1b-340e-4a4b-b355-4a514e4c8943 Exchange Online Archiving for Exchange Online
90b5e015-709a-4b8b-b08e-3200f994494c Exchange Online Archiving for Exchange Server
7fc0182e-d107-4556-8329-7caaa511197b Exchange Online Essentials (based on Plan 1)
e8f81a67-bd96-4074-b108-cf193eb9433b Exchange Online Essentials
80b2d799-d2ba-4d2a-8842-fb0d0f3a4b82 Exchange Online Kiosk
cb0a98a8-11bc-494c-83d9-c1b1ac65327e Exchange Online POP
1fc08a02-8b3d-43b9-831e-f76859e04e1a SharePoint Online (Plan 1)
a9732ec9-17d9-494c-a51c-d6b45b384dcb SharePoint Online (Plan 2)
e6778190-713e-4e4f-9119-8b8238de25df OneDrive for Business (Plan 1)
ed01faf2-1d88-4947-ae91-45ca18703a96 OneDrive for Business (Plan 2)
7e31c0d9-9551-471d-836f-32ee72be4a01 Microsoft Teams Enterprise
fde42873-30b6-436b-b361-21af5a6b84ae Microsoft Teams Essentials
989a1621-93bc-4be0-835c-fe30171d6463 Microsoft Teams Premium
16ddbbfc-09ea-4de2-b1d7-312db6112d70 Microsoft Teams (Free)
710779e8-3d4a-4c88-adb9-386c958d1fdf Microsoft Teams Exploratory
6070a4c8-34c6-4937-8dfb-39bbc6397a60 Microsoft Teams Rooms Standard
6af4b3d6-14bb-4a2a-960c-6c902aad34f3 Microsoft Teams Rooms Basic
4cde982a-ede4-4409-9ae6-b003453c8ea6 Microsoft Teams Rooms Pro
295a8eb0-f78d-45c7-8b5b-1eed5ed02dff Microsoft Teams Shared Devices
e4654015-5daf-4a48-9b37-4f309dddd88b Advanced Communications
0c266dff-15dd-4b49-8397-2bb16070ed52 Microsoft 365 Audio Conferencing
c2cda955-3359-44e5-989f-852ca0cfa02f Microsoft 365 Audio Conferencing for faculty
2d3091c7-0712-488b-b3d8-6b97bde6a1f5 Microsoft 365 Audio Conferencing for GCC
e43b5b99-8dfb-405f-9987-dc307f34bcbd Microsoft Teams Phone Standard
d01d9287-694b-44f3-bcc5-ada78c8d953e Microsoft Teams Phone Standard for DoD
d979703c-028d-4de5-acbf-7955566b69b9 Microsoft Teams Phone Standard for faculty
a460366a-ade7-4791-b581-9fbff1bdaa85 Microsoft Teams Phone Standard for GCC
7035277a-5e49-4abc-a24f-0ec49c501bb5 Microsoft Teams Phone Standard for GCC High
aa6791d3-bb09-4bc2-afed-c30c3fe26032 Microsoft Teams Phone Standard for small and medium business
1f338bbc-767e-4a1e-a2d4-b73207cc5b93 Microsoft Teams Phone Standard for students
440eaaa8-b3e0-484b-a8be-62870b9ba70a Microsoft Teams Phone Resource Account
11dee6af-eca8-419f-8061-6864517c1875 Microsoft 365 Domestic Calling Plan (120 minutes)
0dab259f-bf13-4952-b7f8-7db8f131b28d Microsoft 365 Domestic Calling Plan
d3b4fe1f-9992-4930-8acb-ca6ec609365e Microsoft 365 Domestic and International Calling Plan
47794cd0-f0e5-45c5-9033-2eb6b5fc84e0 Communications Credits
b8b749f8-a4ef-4887-9539-c95b1eaa5db7 Skype for Business Online (Plan 1)
d42c793f-6c78-4f43-92ca-e8f6a02b035f Skype for Business Online (Plan 2)
a403ebcc-fae0-4ca2-8c8c-7a907fd6c235 Microsoft Fabric (Free)
f8a1db68-be16-40ed-86d5-cb42ce701560 Power BI Pro
c1d032e0-5619-4761-9b5c-75b6831e1711 Power BI Premium Per User
45bc2c81-6072-436a-9b0b-3b12eefbc402 Power BI for Office 365 Add-On
b30411f5-fea1-4a59-9ad9-3db7c7ead579 Power Apps Premium
5b631642-bd26-49fe-bd20-1daaa972ef80 Microsoft Power Apps for Developer
dcb1a3ae-b33f-4487-846a-a640262fadf4 Microsoft Power Apps Plan 2 Trial
87bbbc60-4754-4998-8c88-227dca264858 Power Apps and Logic Flows
f30db892-07e9-47e9-837c-80727f46fd3d Microsoft Power Automate Free
606b54a9-78d8-4298-ad8b-df6ef4481c80 Microsoft Copilot Studio Viral Trial
d2dea78b-507c-4e56-b400-39447f4738f8 AI Builder Capacity add-on
beb6439c-caad-48d3-bf46-0c82871e12be Planner Plan 1
53818b1b-4a27-454b-8896-0dba576410e6 Planner and Project Plan 3
09015f9f-377f-4538-bbb5-f75ceb09358a Planner and Project Plan 5
776df282-9fc0-4862-99e2-70e561b9909e Project Online Essentials
2db84718-652c-47a7-860c-f10d8abbdae3 Project Online Premium without Project Client
f82a60b8-1ee3-4cfb-a4fe-1c6a53c2656c Project Online with Project for Office 365
a10d5e58-74da-4312-95c8-76be4e5b75a0 Project for Office 365
4b244418-9658-4451-a2b8-b5e2b364e9bd Visio Plan 1
c5928f49-12ba-48f7-ada3-0d743a3601d5 Visio Plan 2
4ae99959-6b0f-43b0-b1ce-68146001bdba Visio Plan 2 for GCC
61902246-d7cb-453e-85cd-53ee28eec138 Microsoft Viva Suite
4016f256-b063-4864-816e-d818aad600c9 Microsoft Viva Topics
1f2f344a-700d-42c9-9427-5cea1d5d7ba6 Microsoft Stream Trial
0fe440c5-f2bf-442b-a4f4-9a7af77a200b Clipchamp Premium
481f3bc2-5756-4b28-9375-5c8c86b99e6b Clipchamp Standard
cb10e6cd-9da4-4992-867b-67546b1db821 Windows 10/11 Enterprise E3
6a0f6da5-0b87-4190-a6ae-9bb5a2b9546a Windows 10/11 Enterprise E3
488ba24a-39a9-4473-8ee5-19291e71b002 Windows 10/11 Enterprise E5
6470687e-a428-4b7a-bef2-8a291ad947c9 Windows Store for Business
726a0894-2c77-4d65-99da-9775ef05aad1 Microsoft Business Center
90d8b3f8-712e-4f7b-aa1e-62e7ae6cbe96 Business Apps (free)
8f0c5670-4e56-4892-b06d-91c085d7004f App Connect IW
2880026b-2b0c-4251-8656-5d41ff11e3aa Dynamics 365 Business Central Essentials
f991cecc-3f91-4cd0-a9a8-bf1c8167e029 Dynamics 365 Business Central Premium
ea126fc5-a19e-42e2-a731-da9d437bffcf Dynamics 365 Customer Engagement Plan Enterprise Edition
749742bf-0d37-4158-a120-33567104deeb Dynamics 365 for Customer Service Enterprise Edition
cc13a803-544e-4464-b4e4-6d6169a138fa Dynamics 365 for Financials Business Edition
8edc2cf8-6438-4fa9-b6e3-aa1660c640cc Dynamics 365 for Sales and Customer Service Enterprise Edition
1e1a282c-9c54-43a2-9310-98ef728faace Dynamics 365 for Sales Enterprise Edition
f2e48cb3-9da0-42cd-8464-4a54ce198ad0 Dynamics 365 for Supply Chain Management
7ac9fe77-66b7-4e5e-9e46-10eed1cff547 Dynamics 365 Team Members
338148b6-1b11-4102-afb9-f92b6cdc0f8d Dynamics 365 P1 Trial for Information Workers
ccba3cfe-71ef-423a-bd87-b6df3dce59a9 Dynamics 365 Unified Operations Plan Enterprise Edition
d17b27af-3f49-4822-99f9-56a661538792 Microsoft Dynamics CRM Online
906af65a-2970-46d5-9b58-4e9aa50f0657 Microsoft Dynamics CRM Online Basic
"""

PRODUCT_NAMES: Final[dict[str, str]] = {
    sku_id: name for sku_id, _, name in (line.partition(" ") for line in _LIST.strip().splitlines())
}
"""Names by the id of the product."""
